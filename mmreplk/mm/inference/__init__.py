from ...io import read_image
from .classes import Classes
from .detections import Detections
from .files import Job, check_new, find_jobs, list_files, predict_files
from .page import Limits, serve
from .predictor import Predictor, prediction_type
from .segmentation import Segmentation
from .windows import Windows

__all__ = [
    'Classes', 'Detections', 'Job', 'Limits', 'Predictor', 'Segmentation', 'Windows', 'check_new', 'find_jobs',
    'list_files', 'predict_files', 'prediction_type', 'read_image', 'serve'
]
