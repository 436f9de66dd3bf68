from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('leaderboard', '0002_cancelled_submissions'),
    ]

    operations = [
        migrations.AddField(
            model_name='entry',
            name='findings',
            field=models.JSONField(default=list),
        ),
    ]
