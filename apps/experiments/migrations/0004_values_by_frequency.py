from django.db import migrations

# Which values of a dimension shared "(other)" depended on the order in which rows were read. Hours that have such a cell
# are added up anew by the next look, as long as their rows are there.
ANEW = """
INSERT INTO experiments_change (experiment_id, hour)
SELECT DISTINCT c.experiment_id, c.hour
  FROM experiments_cell c
  JOIN experiments_experiment e ON e.id = c.experiment_id
 WHERE c.dimension LIKE '%=(other)' AND e.raw_dropped_at IS NULL
"""


class Migration(migrations.Migration):
    dependencies = [("experiments", "0003_studies_and_retention")]

    operations = [migrations.RunSQL(ANEW, migrations.RunSQL.noop)]
