from .checkpoint import Checkpoint as Checkpoint
from .load import load_checkpoint as load_checkpoint
