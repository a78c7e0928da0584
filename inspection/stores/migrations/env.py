"""Runs the steps in `versions/` on the connection that `stores.migrate` hands over.

The caller owns the transaction: either all steps are done or none.
"""

from alembic import context

from inspection.stores.schema import metadata


def run() -> None:
    """Run the wanted steps."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        transactional_ddl=True,
    )
    context.run_migrations()


run()
