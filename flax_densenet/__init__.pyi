from . import training as training
from . import weights as weights
from .densenet import DenseNet as DenseNet
from .errors import InputError as InputError
from .network.batch_norm import BatchNorm as BatchNorm
from .network.config import DenseNetConfig as DenseNetConfig
from .network.initialization import initialize as initialize
from .network.layers import count_parameters as count_parameters
from .network.model import DenseBlock as DenseBlock
from .network.model import DenseLayer as DenseLayer
from .network.model import Transition as Transition
from .network.variants import VARIANTS as VARIANTS
from .weights.pretrained import create as create
from .weights.pretrained import image_reader as image_reader
from .weights.pretrained import load as load
from .weights.published.classes import class_names as class_names
from .weights.table import from_torch as from_torch
from .weights.table import to_torch as to_torch
from .weights.table import to_torch_arrays as to_torch_arrays

__version__: str
