import apps.rollouts.models
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('registry', '0006_promotions_and_teams'),
        ('rollouts', '0004_looks_and_acknowledgements'),
        ('targets', '0005_target_kind_kubernetes'),
    ]

    operations = [
        migrations.CreateModel(
            name='RolloutSequence',
            fields=[
                ('id', models.CharField(default=apps.rollouts.models.sequence_id, max_length=40, primary_key=True, serialize=False)),
                ('plan', models.JSONField()),
                ('plan_hash', models.CharField(max_length=71)),
                ('phase', models.CharField(default='running', max_length=16)),
                ('wave', models.PositiveIntegerField(default=0)),
                ('revision', models.PositiveIntegerField(default=1)),
                ('memo', models.JSONField(default=dict)),
                ('reason', models.TextField(blank=True, default='')),
                ('note', models.TextField(blank=True, default='')),
                ('created_by', models.CharField(max_length=200)),
                ('starters', models.JSONField(default=list)),
                ('starter_chain', models.JSONField(default=list)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('phase_started_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('due_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('look_error', models.TextField(blank=True, default='')),
                ('candidate_version', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='registry.modelversion')),
            ],
        ),
        migrations.CreateModel(
            name='SequenceMember',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('wave', models.PositiveIntegerField()),
                ('place', models.PositiveIntegerField()),
                ('plan', models.JSONField()),
                ('plan_hash', models.CharField(max_length=71)),
                ('left', models.TextField(blank=True, default='')),
                ('back', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='rollouts.rollout')),
                ('endpoint', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='targets.endpoint')),
                ('rollout', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='rollouts.rollout')),
                ('sequence', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='members', to='rollouts.rolloutsequence')),
            ],
            options={
                'ordering': ('wave', 'place'),
            },
        ),
        migrations.CreateModel(
            name='SequenceTransition',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('revision', models.PositiveIntegerField()),
                ('from_phase', models.CharField(max_length=16)),
                ('to_phase', models.CharField(max_length=16)),
                ('action', models.CharField(max_length=16)),
                ('reason', models.TextField()),
                ('wave', models.PositiveIntegerField()),
                ('actor_label', models.CharField(max_length=200)),
                ('state', models.TextField(default='')),
                ('seen', models.TextField(default='')),
                ('decision', models.TextField(default='')),
                ('code_hash', models.CharField(blank=True, default='', max_length=71)),
                ('at', models.DateTimeField()),
                ('sequence', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='transitions', to='rollouts.rolloutsequence')),
            ],
            options={
                'ordering': ('id',),
            },
        ),
        migrations.AddIndex(
            model_name='rolloutsequence',
            index=models.Index(condition=models.Q(('phase__in', ['baking', 'paused', 'rolling_back', 'running', 'stopped', 'waiting'])), fields=['due_at'], name='sequence_due'),
        ),
        migrations.AddConstraint(
            model_name='rolloutsequence',
            constraint=models.CheckConstraint(condition=models.Q(('phase__in', ['running', 'baking', 'waiting', 'paused', 'stopped', 'rolling_back', 'completed', 'rolled_back', 'aborted', 'failed'])), name='sequence_phase_known'),
        ),
        migrations.AddConstraint(
            model_name='sequencemember',
            constraint=models.UniqueConstraint(fields=('sequence', 'endpoint'), name='endpoint_once_per_sequence'),
        ),
        migrations.AddConstraint(
            model_name='sequencetransition',
            constraint=models.UniqueConstraint(fields=('sequence', 'revision'), name='sequence_transition_once_per_revision'),
        ),
    ]
