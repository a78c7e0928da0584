"""README.txt of a proof archive: what it is and how it is checked, in English and Korean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_TEXT: Final = """\
{product} {part}

This file holds everything that the records of one inspection system say about one part: each
inspection with its image, its evidence and what was decided, by which model and which recipe; every
decision of a person; and what else happened to the part.

  names of the part   {names}
  entries             {entries}, numbers {first} to {last}
  proven against      a signed checkpoint over {size} entries (checkpoint.txt)

To check it, on any computer, without a network:

  inspection verify-proof THIS-FILE --key KEY [--witness-key KEY]

KEY is the verifier key of the records. Get it from their owner by another way than this file. A
witness's key shows that somebody else saw the same records at that time.

What that proves: every entry here stood in the records, unchanged, when the checkpoint was signed,
and every image here is the one that was judged. What it does not prove: that nothing was left out
of this file, that a mark was read rightly, or that a verdict was right.

The numbers of model and recipe (digest) in the entries name the exact files that judged.

------------------------------------------------------------------------------------------------

이 파일은 한 부품에 대해 검사 기록이 담고 있는 모든 것입니다: 모든 검사와 원본 이미지, 판정 근거,
판정에 쓰인 모델과 레시피, 사람이 내린 결정, 그 밖에 부품에 일어난 일.

  부품 이름       {names}
  기록            {entries}건, 번호 {first} ~ {last}
  증명 기준       {size}건의 기록에 대해 서명된 체크포인트 (checkpoint.txt)

네트워크 없이 아무 컴퓨터에서나 확인할 수 있습니다:

  inspection verify-proof 이-파일 --key KEY [--witness-key KEY]

KEY 는 기록의 공개 키입니다. 이 파일이 아닌 다른 경로로 기록의 주인에게서 받으십시오.
증인의 키는 그 시각에 다른 누군가가 같은 기록을 보았다는 것을 보여 줍니다.

증명되는 것: 여기 있는 모든 기록은 체크포인트가 서명될 때 그대로 있었고, 여기 있는 모든 이미지는
판정된 바로 그 이미지입니다. 증명되지 않는 것: 이 파일에서 빠진 것이 없다는 것, 각인을 바르게
읽었다는 것, 판정이 옳았다는 것.
"""


def readme(
    *, product: str, part: str, names: Sequence[str], sequences: Sequence[int], size: int
) -> str:
    """The text for an archive; the same for the same part, entries and checkpoint."""
    return _TEXT.format(
        product=product,
        part=part,
        names=", ".join(names),
        entries=len(sequences),
        first=sequences[0],
        last=sequences[-1],
        size=size,
    )
