"""mosec: a stage that decodes and one that infers in batches, or both in one."""

from _judge import Judge, prepared, settings
from mosec import Server, Worker

SETTINGS = settings()


class Decoding(Worker):
    """PNG in, the network's input out."""

    def deserialize(self, data):
        return bytes(data)

    def forward(self, data):
        return prepared(data, SETTINGS["size_px"])


class Inferring(Worker):
    """A batch of the network's inputs, or one, in; answers out, as JSON by mosec's own hand."""

    def __init__(self):
        super().__init__()
        self.judge = Judge(SETTINGS["model"], SETTINGS.get("threads"))
        self.judge.warm(SETTINGS["size_px"], SETTINGS["batch"])

    def forward(self, data):
        if SETTINGS["batch"] == 1:
            return self.judge.answers([data])[0]
        return self.judge.answers(data)


class Both(Inferring):
    """PNG in, answers out, in one process: nothing is handed over between stages."""

    def deserialize(self, data):
        return bytes(data)

    def forward(self, data):
        if SETTINGS["batch"] == 1:
            return super().forward(prepared(data, SETTINGS["size_px"]))
        return super().forward([prepared(one, SETTINGS["size_px"]) for one in data])


if __name__ == "__main__":
    server = Server()
    batching = {"max_batch_size": SETTINGS["batch"], "max_wait_time": SETTINGS["wait_ms"]}
    if SETTINGS["decoders"]:
        server.append_worker(Decoding, num=SETTINGS["decoders"])
        server.append_worker(Inferring, num=SETTINGS["workers"], **batching)
    else:
        server.append_worker(Both, num=SETTINGS["workers"], **batching)
    server.run()
