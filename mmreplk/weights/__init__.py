from .download import find, is_name, local_file
from .files import is_whole, read_checkpoint, write_checkpoint
from .published import PUBLISHED, Published

__all__ = ['PUBLISHED', 'Published', 'find', 'is_name', 'is_whole', 'local_file', 'read_checkpoint', 'write_checkpoint']
