from .choose import choose_implementation as choose_implementation
from .choose import describe_choice as describe_choice
from .variables import apply as apply
