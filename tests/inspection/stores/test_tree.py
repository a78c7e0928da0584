from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, insert, update

from inspection.errors import InputError, NotFound, RecordsDamaged
from inspection.proofs.merkle import leaf_hash, tree_root, verify_consistency, verify_inclusion
from inspection.stores.database import ensure_month, open_engine
from inspection.stores.migrate import ensure_schema
from inspection.stores.places import records_url
from inspection.stores.rollups import GrowingTree
from inspection.stores.schema import entries, tree_heads, tree_nodes
from inspection.stores.tree import HashTree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

    from tests.postgres_server import PostgresServer

LEAVES = [leaf_hash(str(number).encode()) for number in range(66_000)]
MONTH = 202611


def grow(engine: Engine, start: int, end: int) -> None:
    tree = GrowingTree()
    for leaf in LEAVES[:start]:
        tree.add(leaf)
    tree = GrowingTree(tree.size, tree.peaks)
    for leaf in LEAVES[start:end]:
        tree.add(leaf)
    rows = [
        {
            "sequence": number + 1,
            "month": MONTH,
            "kind": "event",
            "id": str(number),
            "body": b"",
            "leaf_hash": LEAVES[number],
        }
        for number in range(start, end)
    ]
    with engine.begin() as connection:
        ensure_month(connection, MONTH)
        connection.execute(insert(entries), rows)
        tree.write(connection)
        connection.execute(
            insert(tree_heads),
            {"size": end, "root": tree.root(), "peaks": b"".join(tree.peaks)},
        )


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    url = records_url(tmp_path_factory.mktemp("tree"))
    ensure_schema(url, lock_wait_s=5)
    made = open_engine(url, writing=True)
    grow(made, 0, 700)
    grow(made, 700, len(LEAVES))
    yield made
    made.dispose()


SIZES = [1, 2, 255, 256, 257, 511, 512, 700, 65_535, 65_536, 65_537, 65_793, 66_000]


@pytest.mark.parametrize("size", SIZES)
def test_any_size_that_the_tree_ever_had_has_its_root_and_proofs(engine: Engine, size: int) -> None:
    root = tree_root(LEAVES[:size])
    with engine.begin() as connection:
        tree = HashTree(connection)
        assert tree.root(size) == root
        for sequence in {1, size // 2 or 1, max(size - 1, 1), size}:
            proof = tree.inclusion(sequence, size)
            leaf = LEAVES[sequence - 1]
            assert tree.leaf(sequence) == leaf
            assert verify_inclusion(sequence - 1, size, leaf, proof, root)
        for old in [each for each in (0, *SIZES) if each <= size]:
            proof = tree.consistency(old, size)
            assert verify_consistency(old, size, tree_root(LEAVES[:old]), root, proof)


def test_proof_of_one_in_many_is_small_and_reads_little(engine: Engine) -> None:
    with engine.begin() as connection:
        tree = HashTree(connection)
        proof = tree.inclusion(33_333, 66_000)
        assert 32 * len(proof) <= 1024
        assert sum(map(len, tree._blocks.values())) <= 5 * 256


def test_what_the_tree_never_held_is_refused(engine: Engine) -> None:
    with engine.begin() as connection:
        tree = HashTree(connection)
        assert tree.root(0) == tree_root([])
        for size in (-1, 66_001):
            with pytest.raises(InputError):
                tree.root(size)
        for sequence, size in ((0, 5), (6, 5)):
            with pytest.raises(NotFound):
                tree.inclusion(sequence, size)
        with pytest.raises(InputError):
            tree.consistency(6, 5)
        with pytest.raises(NotFound):
            tree.leaf(66_001)


@pytest.mark.parametrize("level", [1, 2])
def test_node_that_is_missing_or_false_proves_nothing(engine: Engine, level: int) -> None:
    node = (tree_nodes.c.level == level) & (tree_nodes.c.position == 0)
    for change in (
        delete(tree_nodes).where(node),
        update(tree_nodes).where(node).values(hash=b"x" * 32),
    ):
        with engine.connect() as connection:
            transaction = connection.begin()
            connection.execute(change)
            with pytest.raises(RecordsDamaged):
                HashTree(connection).inclusion(5, 66_000)
            with pytest.raises(RecordsDamaged):
                HashTree(connection).consistency(700, 66_000)
            transaction.rollback()


def test_leaf_that_is_missing_or_false_proves_nothing(engine: Engine) -> None:
    leaf = entries.c.sequence == 5
    for change in (
        delete(entries).where(leaf),
        update(entries).where(leaf).values(leaf_hash=b"x" * 32),
    ):
        with engine.connect() as connection:
            transaction = connection.begin()
            connection.execute(change)
            with pytest.raises(RecordsDamaged):
                HashTree(connection).inclusion(7, 66_000)
            transaction.rollback()


def test_false_head_proves_nothing(engine: Engine) -> None:
    with engine.connect() as connection:
        transaction = connection.begin()
        connection.execute(
            update(tree_heads).where(tree_heads.c.size == 700).values(root=b"x" * 32)
        )
        with pytest.raises(RecordsDamaged):
            HashTree(connection).inclusion(5, 700)
        transaction.rollback()


def test_postgresql_gives_the_same_proofs(postgres: PostgresServer, engine: Engine) -> None:
    other = open_engine(postgres.fresh(), writing=True)
    try:
        grow(other, 0, 700)
        with other.begin() as there, engine.begin() as here:
            one, two = HashTree(there), HashTree(here)
            for sequence, size in ((1, 700), (300, 600), (600, 600)):
                assert one.inclusion(sequence, size) == two.inclusion(sequence, size)
            assert one.consistency(257, 700) == two.consistency(257, 700)
    finally:
        other.dispose()
