"""The trail of staff is append-only: the database refuses to change a row, and PostgreSQL to delete one.

SQLite deletes rows to empty a table, which tests have to do. A later migration that alters this table on SQLite makes it
anew, without the trigger, and has to bring it back.
"""

from django.db import migrations

_SENTENCE = "what staff did is never changed"

_SQLITE = (
    f"""
    CREATE TRIGGER staff_acts_stay BEFORE UPDATE ON leaderboard_staffact
    BEGIN SELECT RAISE(ABORT, '{_SENTENCE}'); END
    """,
)
_POSTGRESQL = (
    f"""
    CREATE FUNCTION staff_acts_stay() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION '{_SENTENCE}'; END $$
    """,
    """
    CREATE TRIGGER staff_acts_stay BEFORE UPDATE OR DELETE ON leaderboard_staffact
    FOR EACH ROW EXECUTE FUNCTION staff_acts_stay()
    """,
)


def forbid(apps, schema_editor):
    for statement in {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


def allow(apps, schema_editor):
    schema_editor.execute(
        "DROP FUNCTION staff_acts_stay CASCADE"
        if schema_editor.connection.vendor == "postgresql"
        else "DROP TRIGGER staff_acts_stay"
    )


class Migration(migrations.Migration):

    dependencies = [
        ('leaderboard', '0008_moderation'),
    ]

    operations = [migrations.RunPython(forbid, allow)]
