from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.proofs.merkle import (
    EMPTY_ROOT,
    Frontier,
    Subtree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)

# The vectors of RFC 6962 / RFC 9162 as certificate-transparency implementations share them.
DATA = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
LEAVES = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "0298d122906dcfc10892cb53a73992fc5b9f493ea4c9badb27b791b4127a7fe7",
    "07506a85fd9dd2f120eb694f86011e5bb4662e5c415a62917033d4a9624487e7",
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    "4271a26be0d8a84f0bd54c8c302e7cb3a3b5d1fa6780a40bcce2873477dab658",
    "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
    "46f6ffadd3d06a09ff3c5860d2755c8b9819db7df44251788c7d8e3180de8eb1",
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
NODES = {
    (2, 3): "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    (4, 5): "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    (6, 7): "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    (4, 7): "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
}


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


@pytest.mark.parametrize(("data", "leaf"), list(zip(DATA, LEAVES, strict=True)))
def test_leaf_hash_is_the_rfcs(data: bytes, leaf: str) -> None:
    assert leaf_hash(data).hex() == leaf


def test_other_published_leaf_and_node() -> None:
    assert leaf_hash(b"L123456").hex() == (
        "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
    )
    assert node_hash(b"N123", b"N456").hex() == (
        "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"
    )


@pytest.mark.parametrize("size", range(9))
def test_root_is_the_rfcs(size: int) -> None:
    assert tree_root(leaf_hash(data) for data in DATA[:size]).hex() == ROOTS[size]


@pytest.mark.parametrize(("span", "node"), list(NODES.items()))
def test_inner_node_is_the_rfcs(span: tuple[int, int], node: str) -> None:
    first, last = span
    assert tree_root(leaf_hash(data) for data in DATA[first : last + 1]).hex() == node


def test_peaks_are_the_complete_subtrees_largest_first() -> None:
    tree = Frontier()
    for data in DATA[:7]:
        tree.add(leaf_hash(data))
    assert [peak.hex() for peak in tree.peaks] == [ROOTS[4], NODES[4, 5], LEAVES[6]]


def test_empty_tree_has_the_hash_of_nothing() -> None:
    assert Frontier().root() == EMPTY_ROOT == hashlib.sha256(b"").digest()


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_growing_tree_is_the_recursive_one_at_every_size(data: list[bytes]) -> None:
    tree = Frontier()
    leaves: list[bytes] = []
    for item in data:
        tree.add(leaf_hash(item))
        leaves.append(leaf_hash(item))
        assert tree.root() == naive_root(leaves)
        assert Frontier(tree.size, tree.peaks).root() == tree.root()


@given(st.lists(st.binary(max_size=4), min_size=1, max_size=40), st.data())
def test_any_other_leaf_gives_another_root(data: list[bytes], draw: st.DataObject) -> None:
    leaves = [leaf_hash(item) for item in data]
    at = draw.draw(st.integers(0, len(leaves) - 1))
    changed = [*leaves]
    changed[at] = bytes([changed[at][0] ^ 1]) + changed[at][1:]
    assert tree_root(changed) != tree_root(leaves)


def test_copy_grows_by_itself() -> None:
    tree = Frontier()
    tree.add(leaf_hash(b"a"))
    copy = tree.copy()
    copy.add(leaf_hash(b"b"))
    assert (tree.size, copy.size) == (1, 2)
    assert tree.root() == leaf_hash(b"a")


@pytest.mark.parametrize(
    ("size", "peaks"), [(-1, []), (0, [bytes(32)]), (3, [bytes(32)]), (1, [bytes(31)])]
)
def test_peaks_that_do_not_fit_are_refused(size: int, peaks: list[bytes]) -> None:
    with pytest.raises(ValueError, match="fit"):
        Frontier(size, peaks)


# --- proofs ------------------------------------------------------------------------------------

ALL = [leaf_hash(data) for data in DATA]
PUBLISHED = [*LEAVES, *NODES.values(), *ROOTS]
PUBLISHED.append("0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a")
BY_FIRST_DIGITS = {text[:4]: bytes.fromhex(text) for text in PUBLISHED}
BY_FIRST_DIGITS["837d"] = node_hash(BY_FIRST_DIGITS["0ebc"], BY_FIRST_DIGITS["b086"])


def source(leaves: list[bytes]) -> Subtree:
    return lambda lo, hi: naive_root(leaves[lo:hi])


def root(size: int) -> bytes:
    return bytes.fromhex(ROOTS[size])


@pytest.mark.parametrize(
    ("index", "size", "nodes"),
    [
        (0, 8, ["96a2", "5f08", "6b47"]),
        (5, 8, ["bc1a", "ca85", "d37e"]),
        (2, 3, ["fac5"]),
        (1, 5, ["6e34", "5f08", "bc1a"]),
        (0, 1, []),
    ],
)
def test_inclusion_proof_is_the_published_one(index: int, size: int, nodes: list[str]) -> None:
    proof = inclusion_proof(index, size, source(ALL))
    assert list(proof) == [BY_FIRST_DIGITS[node] for node in nodes]
    assert verify_inclusion(index, size, ALL[index], proof, root(size))


@pytest.mark.parametrize(
    ("old", "new", "nodes"),
    [
        (1, 8, ["96a2", "5f08", "6b47"]),
        (6, 8, ["0ebc", "ca85", "d37e"]),
        (2, 5, ["5f08", "bc1a"]),
        (6, 7, ["0ebc", "b086", "d37e"]),
        (3, 7, ["0298", "0750", "fac5", "837d"]),
        (4, 7, ["837d"]),
        (0, 7, []),
        (7, 7, []),
    ],
)
def test_consistency_proof_is_the_published_one(old: int, new: int, nodes: list[str]) -> None:
    proof = consistency_proof(old, new, source(ALL))
    assert list(proof) == [BY_FIRST_DIGITS[node] for node in nodes]
    assert verify_consistency(old, new, root(old), root(new), proof)


def leaves_of(size: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(size)]


@pytest.mark.parametrize("size", [*range(1, 20), 31, 32, 33, 64, 65])
def test_every_leaf_of_every_tree_is_proven(size: int) -> None:
    leaves = leaves_of(size)
    top = naive_root(leaves)
    for index in range(size):
        proof = inclusion_proof(index, size, source(leaves))
        assert len(proof) <= (size - 1).bit_length()
        assert verify_inclusion(index, size, leaves[index], proof, top)


@pytest.mark.parametrize("new", [*range(20), 32, 33])
def test_every_beginning_of_every_tree_is_proven(new: int) -> None:
    leaves = leaves_of(new)
    for old in range(new + 1):
        proof = consistency_proof(old, new, source(leaves))
        assert verify_consistency(old, new, naive_root(leaves[:old]), naive_root(leaves), proof)


@given(st.integers(1, 300), st.data())
def test_inclusion_with_anything_changed_does_not_hold(size: int, draw: st.DataObject) -> None:
    leaves = leaves_of(size)
    index = draw.draw(st.integers(0, size - 1))
    proof, top = inclusion_proof(index, size, source(leaves)), tree_root(leaves)
    assert verify_inclusion(index, size, leaves[index], proof, top)
    hashes = [leaves[index], *proof, top]
    which = draw.draw(st.integers(0, len(hashes) - 1))
    byte, bit = draw.draw(st.integers(0, 31)), draw.draw(st.integers(0, 7))
    wrong = bytearray(hashes[which])
    wrong[byte] ^= 1 << bit
    hashes[which] = bytes(wrong)
    assert not verify_inclusion(index, size, hashes[0], hashes[1:-1], hashes[-1])


@given(st.integers(1, 300), st.data())
def test_consistency_with_anything_changed_does_not_hold(new: int, draw: st.DataObject) -> None:
    leaves = leaves_of(new)
    old = draw.draw(st.integers(1, new))
    proof = consistency_proof(old, new, source(leaves))
    hashes = [tree_root(leaves[:old]), *proof, tree_root(leaves)]
    assert verify_consistency(old, new, hashes[0], hashes[-1], proof)
    which = draw.draw(st.integers(0, len(hashes) - 1))
    byte, bit = draw.draw(st.integers(0, 31)), draw.draw(st.integers(0, 7))
    wrong = bytearray(hashes[which])
    wrong[byte] ^= 1 << bit
    hashes[which] = bytes(wrong)
    assert not verify_consistency(old, new, hashes[0], hashes[-1], hashes[1:-1])


# What transparency-dev/merkle's negative vectors do to a good proof, done to all of these.
@pytest.mark.parametrize(("index", "size"), [(0, 8), (5, 8), (2, 3), (1, 5), (3, 7)])
def test_inclusion_of_another_place_or_size_does_not_hold(index: int, size: int) -> None:
    leaf, proof = ALL[index], list(inclusion_proof(index, size, source(ALL)))
    for i in (index - 1, index + 1, index ^ 2, index + size, -1):
        assert not verify_inclusion(i, size, leaf, proof, root(size))
    for n in (size * 2, size // 2, 0, -size):
        assert not verify_inclusion(index, n, leaf, proof, root(size))
    for changed in (
        [],
        proof[1:],
        proof[:-1],
        [*proof, b""],
        [*proof, root(size)],
        [root(size), *proof],
        [leaf, *proof],
        [*proof, leaf],
        [bytes(33), *proof[1:]],
        proof[::-1] if len(proof) > 1 else [bytes(32)],
    ):
        assert not verify_inclusion(index, size, leaf, changed, root(size))
    for other in (EMPTY_ROOT, bytes(32), b"", leaf):
        assert not verify_inclusion(index, size, leaf, proof, other)


@pytest.mark.parametrize(("old", "new"), [(1, 8), (6, 8), (2, 5), (6, 7), (3, 7), (4, 7)])
def test_consistency_of_other_sizes_does_not_hold(old: int, new: int) -> None:
    proof = list(consistency_proof(old, new, source(ALL)))
    for a, b in ((old - 1, new), (old + 1, new), (old, new * 2), (old, new // 2), (new, old)):
        assert not verify_consistency(a, b, root(old), root(new), proof)
    for changed in (
        [],
        proof[:-1],
        [*proof, b""],
        [*proof, root(old)],
        [*proof, root(new)],
        [root(old), *proof],
        [root(new), *proof],
        [proof[0], *proof],
    ):
        assert not verify_consistency(old, new, root(old), root(new), changed)
    assert not verify_consistency(old, new, root(new), root(old), proof)
    assert not verify_consistency(old, new, root(old), EMPTY_ROOT, proof)


def test_without_a_proof_only_nothing_and_itself_are_a_beginning() -> None:
    assert verify_consistency(0, 5, EMPTY_ROOT, root(5), [])
    assert not verify_consistency(0, 5, bytes(32), root(5), [])
    assert not verify_consistency(0, 5, EMPTY_ROOT, root(5), [root(5)])
    assert not verify_consistency(5, 5, root(5), root(4), [])
    assert not verify_consistency(5, 5, root(5), root(5), [root(5)])
    assert not verify_consistency(4, 5, root(4), root(5), [])


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_leaf_that_there_is_not_has_no_proof(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        inclusion_proof(index, size, source(ALL))


@pytest.mark.parametrize(("old", "new"), [(-1, 3), (4, 3)])
def test_tree_does_not_begin_with_a_larger_one(old: int, new: int) -> None:
    with pytest.raises(ValueError, match="begin"):
        consistency_proof(old, new, source(ALL))
