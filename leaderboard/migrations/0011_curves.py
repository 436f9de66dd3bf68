from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('leaderboard', '0010_reported_boards'),
    ]

    operations = [
        migrations.AddField(
            model_name='entry',
            name='curves',
            field=models.JSONField(default=list),
        ),
    ]
