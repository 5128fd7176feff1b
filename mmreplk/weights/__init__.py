from .download import find, is_name, local_file
from .files import is_whole, read_checkpoint, write_checkpoint
from .own import OWN, STREETS
from .published import PUBLISHED, Published

__all__ = [
    'OWN', 'PUBLISHED', 'STREETS', 'Published', 'find', 'is_name', 'is_whole', 'local_file', 'read_checkpoint',
    'write_checkpoint'
]
