from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('leaderboard', '0001_first'),
    ]

    operations = [
        migrations.AlterField(
            model_name='submission',
            name='state',
            field=models.CharField(choices=[('submitted', 'Submitted'), ('queued', 'Queued'), ('running', 'Running'), ('published', 'Published'), ('failed', 'Failed'), ('cancelled', 'Cancelled')], default='submitted', max_length=16),
        ),
    ]
