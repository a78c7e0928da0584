"""What the pages say, in Korean and English. Every key exists in both; a test compares them."""

from __future__ import annotations

from typing import Final, Literal

Language = Literal["ko", "en"]
LANGUAGES: Final[tuple[Language, ...]] = ("ko", "en")

WORDS: Final[dict[Language, dict[str, str]]] = {
    "en": {
        "title": "Latest verdicts",
        "pass": "PASS",
        "fail": "FAIL",
        "review": "REVIEW",
        "part": "Part",
        "serial": "Serial",
        "unread": "mark not read",
        "trace_id": "Trace ID",
        "station": "Station",
        "product": "Product",
        "model": "Model",
        "probability": "Probability",
        "novelty": "Novelty",
        "received": "Received",
        "attempt": "Attempt",
        "not_counted": "not counted",
        "reasons": "Why",
        "reviews": "Decided by a person",
        "in_force": "In force",
        "history": "History of the part",
        "lot": "Lot",
        "machine": "Machine",
        "mould": "Mould",
        "cavity": "Cavity",
        "original": "Original image",
        "evidence": "Image with evidence",
        "record": "Record",
        "empty": "No part has been inspected yet.",
        "empty_hint": "Stations send images to POST /v1/inspections; see the API page.",
        "no_part": "There is no record of this part.",
        "no_part_hint": "Check the serial. A part whose mark was not read is found by trace ID.",
        "all": "all",
        "back": "Latest verdicts",
        "api": "API",
        "refreshes": "Refreshes every 5 seconds",
        "find": "Find a serial or trace ID",
        "go": "Find",
        "recent": "The latest {count}",
        "first": "first",
        "recheck": "recheck",
        "after-rework": "after rework",
        "audit": "audit",
        "challenge": "challenge",
        "simulated": "simulated",
        "reason_defect": "defect found",
        "reason_uncertain": "between the limits: a person decides",
        "reason_novel": "unlike the images the model knows",
        "reason_mark-unread": "the mark was not read",
        "reason_unjudgeable": "the image could not be judged",
        "reason_calibration-missing": "the detector has no calibration",
        "reason_calibration-stale": "the detector's calibration or check is too old",
        "reason_calibration-foreign": "the calibration is of another detector",
        "reason_detector-unfit": "the detector is not fit to judge",
        "reason_views": "the worst of its views",
        "reason_view-missing": "a view did not come",
        "on_hold": "ON HOLD",
        "other_names": "Also known as",
        "event_cast": "cast",
        "event_marked": "marked",
        "event_reworked": "reworked",
        "event_shipped": "shipped",
        "event_returned": "returned",
        "event_scrapped": "scrapped",
        "page_not_found": "This page does not exist.",
    },
    "ko": {
        "title": "최근 판정",
        "pass": "합격",
        "fail": "불합격",
        "review": "재검토",
        "part": "부품",
        "serial": "일련번호",
        "unread": "각인 판독 불가",
        "trace_id": "추적 번호",
        "station": "스테이션",
        "product": "제품",
        "model": "모델",
        "probability": "확률",
        "novelty": "이상도",
        "received": "수신 시각",
        "attempt": "회차",
        "not_counted": "집계 제외",
        "reasons": "사유",
        "reviews": "사람의 결정",
        "in_force": "현재 판정",
        "history": "부품 이력",
        "lot": "로트",
        "machine": "설비",
        "mould": "금형",
        "cavity": "캐비티",
        "original": "원본 영상",
        "evidence": "근거 표시 영상",
        "record": "기록",
        "empty": "아직 검사한 부품이 없습니다.",
        "empty_hint": "스테이션은 POST /v1/inspections 로 영상을 보냅니다. API 페이지를 보십시오.",
        "no_part": "이 부품의 기록이 없습니다.",
        "no_part_hint": "일련번호를 확인하십시오. 각인을 읽지 못한 부품은 추적 번호로 찾습니다.",
        "all": "전체",
        "back": "최근 판정",
        "api": "API",
        "refreshes": "5초마다 새로 고침",
        "find": "일련번호 또는 추적 번호",
        "go": "찾기",
        "recent": "최근 {count}건",
        "first": "최초",
        "recheck": "재검사",
        "after-rework": "재작업 후",
        "audit": "감사",
        "challenge": "점검용",
        "simulated": "모의",
        "reason_defect": "결함 검출",
        "reason_uncertain": "판정 한계 사이: 사람이 결정",
        "reason_novel": "모델이 모르는 영상",
        "reason_mark-unread": "각인을 읽지 못함",
        "reason_unjudgeable": "판정할 수 없는 영상",
        "reason_calibration-missing": "검출기 보정 파일 없음",
        "reason_calibration-stale": "검출기 보정 또는 점검 기한이 지남",
        "reason_calibration-foreign": "다른 검출기의 보정 파일",
        "reason_detector-unfit": "검출기 상태가 판정에 부적합",
        "reason_views": "여러 방향 영상 중 가장 나쁜 판정",
        "reason_view-missing": "빠진 방향 영상이 있음",
        "on_hold": "보류",
        "other_names": "다른 이름",
        "event_cast": "주조",
        "event_marked": "각인",
        "event_reworked": "재작업",
        "event_shipped": "출하",
        "event_returned": "반품",
        "event_scrapped": "폐기",
        "page_not_found": "없는 페이지입니다.",
    },
}


def choose_language(asked: str | None, accepted: str | None) -> Language:
    """The page's language: what was asked for, else the browser's first that we have, else English.

    Args:
        asked: the `lang` query parameter.
        accepted: the Accept-Language header.
    """
    if asked == "ko":
        return "ko"
    if asked == "en":
        return "en"
    for item in (accepted or "").split(","):
        tag = item.split(";")[0].strip().lower()
        if tag.startswith("ko"):
            return "ko"
        if tag.startswith("en"):
            return "en"
    return "en"
