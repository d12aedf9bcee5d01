from .choose import choose_implementation as choose_implementation
from .variables import apply as apply
