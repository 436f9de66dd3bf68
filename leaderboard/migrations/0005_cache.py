from django.core.management import call_command
from django.db import migrations


def make_cache(apps, schema_editor):
    """Make the table of the cache, which all web processes share."""
    call_command("createcachetable", database=schema_editor.connection.alias, verbosity=0)


class Migration(migrations.Migration):

    dependencies = [
        ('leaderboard', '0004_private_and_withdrawn'),
    ]

    operations = [
        migrations.RunPython(make_cache, migrations.RunPython.noop),
    ]
