"""Do focal loss and balanced sampling together do better than either?

Documented: skipped by the study's author; it runs here.
    calot train e05_focal_balanced --data ROOT
"""

from dataclasses import replace

from calot.data.sampling import Balanced
from calot.experiments import e03_focal

experiment = replace(e03_focal.experiment, name="e05_focal_balanced", baseline="e02_frozen_probe", sampler=Balanced())
