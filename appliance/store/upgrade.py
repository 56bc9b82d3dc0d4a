"""Brings the database to the newest revision. At head this is one SELECT, and Alembic is not even imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection, Engine, inspect

from appliance.store import migrations
from appliance.store.errors import DatabaseTooNew

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext, RevisionStep


def current_revision(connection: Connection) -> str | None:
    """The revision that Alembic recorded; ``None`` in a database without any."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if found is None else str(found)


def outdated_revision(engine: Engine) -> str | None:
    """The revision of a database that ``upgrade`` would change; None for a new one and for one that is up to date.
    Raises DatabaseTooNew."""
    with engine.connect() as connection:
        found = _known(connection, engine)
    return None if found == migrations.HEAD else found


def upgrade(engine: Engine, target: str | None = None) -> None:
    """Run the migrations up to ``target``, the newest without it, all or none of them. Raises DatabaseTooNew.

    Alembic's step runner is given our modules directly: its usual search of a folder for scripts would need source
    files on disk, which a frozen program does not have.
    """
    target = target or migrations.HEAD
    with engine.connect() as connection:
        if _known(connection, engine) == target:
            return
    with engine.begin() as connection:
        # SQLite can roll DDL back, but only inside a transaction that was begun by hand.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        current = _known(connection, engine)
        if current != target:
            _run(connection, target)


def _known(connection: Connection, engine: Engine) -> str | None:
    found = current_revision(connection)
    if found is not None and found not in {module.revision for module in migrations.MIGRATIONS}:
        raise DatabaseTooNew(path=str(engine.url.database), found=found, known=migrations.HEAD)
    return found


def _run(connection: Connection, target: str) -> None:
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext, MigrationStep
    from alembic.script.base import Script
    from alembic.script.revision import RevisionMap

    scripts = [Script(module, module.revision, f"{module.__name__}.py") for module in migrations.MIGRATIONS]
    revisions = RevisionMap(lambda: scripts)

    def steps(heads: Any, context: MigrationContext) -> list[RevisionStep]:
        del context
        newest_first = cast("list[Script]", list(revisions.iterate_revisions(target, heads or "base")))
        return [MigrationStep.upgrade_from_script(revisions, script) for script in reversed(newest_first)]

    context = MigrationContext.configure(connection, opts={"fn": steps})
    with Operations.context(context):
        context.run_migrations()
