from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspection.merkle import EMPTY_ROOT, Frontier, leaf_hash, node_hash, tree_root

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
