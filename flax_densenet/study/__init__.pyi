from .catalog import FIELD_STUDIES as FIELD_STUDIES
from .catalog import STUDIES as STUDIES
from .functions import feature_reuse as feature_reuse
from .functions import gradient_flow as gradient_flow
from .functions import memory as memory
from .functions import run as run
from .functions import study_field as study_field
from .result import StudyResult as StudyResult
