/* The client of the benchmarks: posts prepared HTTP requests and writes down what became of each.
 *
 *     load PORT MESSAGES OUT CONNECTIONS SECONDS RATE FIRST
 *
 * RATE 0 is a closed loop: each connection posts its next request when it has its answer. Any other
 * RATE is an open loop: so many requests are due a second, evenly, whatever comes back; one that
 * finds no free connection waits for one, and its time still counts from when it was due. wrk has no
 * open loop and does not say which answer took how long, so one small client does both.
 *
 * MESSAGES holds, in the machine's own numbers, for each request: length, count of patches (uint32
 * each), the patches (uint32 at, uint32 from), and the bytes as they go over the line. A patch is
 * the request's number as eight digits, or, where `from` is not NUMBER, the CRC-32 of the bytes from
 * there up to the patch, the last eight of them being the number: so every image is another one.
 *
 * Connections are made when they are needed and kept. A server may hang up on one that is idle just
 * when a request leaves; like a station with its key, this client then sends it once more.
 *
 * OUT gets one record a request. Prints seconds of CPU, user and system, how many connections were
 * made and how many requests were sent again. The first answer of each status goes to stderr.
 * Linux only.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define NUMBER UINT32_MAX
#define DIGITS 8
#define MOST_PATCHES 8
#define ROOM 65536
#define GRACE_S 15.0 /* for what is still under way at the end */
#define NO_ANSWER 0  /* the connection ended, or the time did */

typedef struct { uint32_t at, from; } Patch;
typedef struct { uint32_t length, patches; Patch patch[MOST_PATCHES]; char *bytes; } Message;
typedef struct { double due, sent, answered; int32_t status; uint32_t number; } Record;

typedef struct {
    int fd, busy, sending, answered, used, again;
    struct iovec piece[2 * MOST_PATCHES + 1];
    int pieces, next;
    char patched[MOST_PATCHES][DIGITS];
    Record record;
    size_t got;
    char answer[ROOM];
} Connection;

static Message *messages;
static uint32_t count, number;
static struct sockaddr_in address;
static int events, connects, repeats, free_count;
static Connection **free_ones;
static FILE *out;
static char seen[1000];

static void die(const char *what) { perror(what); exit(1); }

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint32_t crc(uint32_t state, const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        state ^= (unsigned char)bytes[i];
        for (int bit = 0; bit < 8; bit++) state = state >> 1 ^ (state & 1 ? 0xEDB88320u : 0);
    }
    return state;
}

static void read_messages(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    uint32_t head[2];
    while (fread(head, sizeof head, 1, file) == 1) {
        messages = realloc(messages, (count + 1) * sizeof *messages);
        Message *m = &messages[count++];
        m->length = head[0], m->patches = head[1], m->bytes = malloc(head[0]);
        if (m->patches > MOST_PATCHES) { fprintf(stderr, "too many patches\n"); exit(1); }
        if (fread(m->patch, sizeof(Patch), m->patches, file) != m->patches ||
            fread(m->bytes, 1, m->length, file) != m->length) die("messages");
    }
    if (!count) { fprintf(stderr, "no messages\n"); exit(1); }
    fclose(file);
}

static void open_connection(Connection *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int on = 1;
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) die("connect");
    struct epoll_event want = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(events, EPOLL_CTL_ADD, c->fd, &want)) die("epoll");
    connects++;
    c->used = 0;
}

static void watch(Connection *c, uint32_t what) {
    struct epoll_event want = {.events = what, .data.ptr = c};
    if (epoll_ctl(events, EPOLL_CTL_MOD, c->fd, &want)) die("epoll");
}

static void finish(Connection *c) {
    fwrite(&c->record, sizeof c->record, 1, out);
    c->busy = 0, c->used = 1;
    free_ones[free_count++] = c;
}

static void start(Connection *c);

/* The server closed, or the line broke: an answer that came before that counts. */
static void reconnect(Connection *c) {
    int repeat = c->busy && !c->answered && !c->got && c->used && !c->again;
    close(c->fd);
    open_connection(c);
    if (!c->busy) return;
    if (repeat) { c->again = 1, repeats++; start(c); return; }
    if (!c->answered) c->record.status = NO_ANSWER, c->record.answered = now();
    c->sending = 0;
    finish(c);
}

static int push(Connection *c) { /* 0 when the connection is gone */
    while (c->next < c->pieces) {
        ssize_t wrote = writev(c->fd, c->piece + c->next, c->pieces - c->next);
        if (wrote < 0) return errno == EAGAIN || errno == EINTR;
        while (c->next < c->pieces && (size_t)wrote >= c->piece[c->next].iov_len)
            wrote -= (ssize_t)c->piece[c->next++].iov_len;
        if (c->next < c->pieces) {
            c->piece[c->next].iov_base = (char *)c->piece[c->next].iov_base + wrote;
            c->piece[c->next].iov_len -= (size_t)wrote;
        }
    }
    c->sending = 0;
    return 1;
}

static void start(Connection *c) {
    Message *m = &messages[c->record.number % count];
    char digits[DIGITS + 1];
    snprintf(digits, sizeof digits, "%08u", c->record.number % 100000000u);
    uint32_t from = 0;
    c->pieces = c->next = 0;
    for (uint32_t i = 0; i < m->patches; i++) {
        Patch p = m->patch[i];
        size_t wide = p.from == NUMBER ? DIGITS : 4;
        if (p.from == NUMBER) memcpy(c->patched[i], digits, DIGITS);
        else {
            uint32_t sum = crc(~0u, m->bytes + p.from, p.at - DIGITS - p.from);
            sum = htonl(~crc(sum, digits, DIGITS));
            memcpy(c->patched[i], &sum, 4);
        }
        c->piece[c->pieces++] = (struct iovec){m->bytes + from, p.at - from};
        c->piece[c->pieces++] = (struct iovec){c->patched[i], wide};
        from = p.at + (uint32_t)wide;
    }
    c->piece[c->pieces++] = (struct iovec){m->bytes + from, m->length - from};
    c->busy = c->sending = 1, c->answered = 0, c->got = 0;
    if (!push(c)) reconnect(c);
    else if (c->sending) watch(c, EPOLLIN | EPOLLOUT);
}

static void post(Connection *c, double due) {
    c->again = 0;
    c->record = (Record){.due = due, .sent = now(), .number = number++};
    start(c);
}

/* Reads what is there. 0 when the connection is gone, or has to go. */
static int pull(Connection *c) {
    for (;;) {
        ssize_t read_now = read(c->fd, c->answer + c->got, ROOM - 1 - c->got);
        if (read_now < 0) return errno == EAGAIN || errno == EINTR;
        if (read_now == 0 || !c->busy || c->answered) return 0;
        c->got += (size_t)read_now, c->answer[c->got] = 0;
        char *body = strstr(c->answer, "\r\n\r\n");
        if (!body) continue;
        *body = 0, body += 4;
        char *length = strcasestr(c->answer, "\r\ncontent-length:");
        int close_after = strcasestr(c->answer, "\r\nconnection: close") != NULL;
        size_t have = c->got - (size_t)(body - c->answer);
        int whole = length ? have >= strtoul(length + 17, NULL, 10)
                           : have >= 5 && !memcmp(c->answer + c->got - 5, "0\r\n\r\n", 5);
        if (whole) {
            c->record.answered = now(), c->record.status = atoi(c->answer + 9), c->answered = 1;
            if (c->record.status < 1000 && !seen[c->record.status]++)
                fprintf(stderr, "%s\n%s\n\n", c->answer, body);
            return !close_after;
        }
        body[-4] = '\r';
        if (c->got >= ROOM - 1) { fprintf(stderr, "an answer is too long\n"); return 0; }
    }
}

int main(int argc, char **argv) {
    if (argc != 8) { fprintf(stderr, "PORT MESSAGES OUT CONNECTIONS SECONDS RATE FIRST\n"); return 2; }
    int connections = atoi(argv[4]);
    double seconds = atof(argv[5]), rate = atof(argv[6]);
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    number = (uint32_t)strtoul(argv[7], NULL, 10);
    read_messages(argv[2]);
    if (!(out = fopen(argv[3], "wb"))) die(argv[3]);
    events = epoll_create1(0);
    Connection *all = calloc((size_t)connections, sizeof *all);
    free_ones = calloc((size_t)connections, sizeof *free_ones);
    int opened = 0;

    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event ticks = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(events, EPOLL_CTL_ADD, timer, &ticks);
    double start = now(), end = start + seconds;
    uint64_t posted = 0;
    for (;;) {
        double t = now();
        while ((free_count || opened < connections) && (rate > 0 ? start + (double)posted / rate <= t && posted < rate * seconds : t < end)) {
            double due = rate > 0 ? start + (double)posted / rate : t;
            posted++;
            if (!free_count) open_connection(free_ones[free_count++] = &all[opened++]);
            post(free_ones[--free_count], due);
            t = now();
        }
        int over = rate > 0 ? posted >= rate * seconds : t >= end;
        if ((over && free_count == opened) || t > end + GRACE_S) break;
        double next = over ? end + GRACE_S : rate > 0 && (free_count || opened < connections) ? start + (double)posted / rate : end;
        if (next < t) next = t + (over ? 0.1 : 1e-5);
        struct itimerspec at = {.it_value = {(time_t)next, (long)(1e9 * (next - (double)(time_t)next)) + 1}};
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
        struct epoll_event ready[64];
        int many = epoll_wait(events, ready, 64, -1);
        for (int i = 0; i < many; i++) {
            Connection *c = ready[i].data.ptr;
            if (!c) { uint64_t ticked; if (read(timer, &ticked, sizeof ticked) < 0) continue; continue; }
            int stays = 1;
            if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) stays = pull(c);
            if (stays && c->sending && ready[i].events & EPOLLOUT) {
                stays = push(c) || (pull(c) && 0);
                if (stays && !c->sending) watch(c, EPOLLIN);
            }
            if (!stays) reconnect(c);
            else if (c->busy && c->answered && !c->sending) finish(c);
        }
    }
    double last = now();
    for (int i = 0; i < opened; i++)
        if (all[i].busy) all[i].record.status = NO_ANSWER, all[i].record.answered = last, finish(&all[i]);
    fclose(out);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("%.6f %d %d\n", (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec), connects, repeats);
    return 0;
}
