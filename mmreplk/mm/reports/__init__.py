from .changes import config_changes
from .examples import Examples, find_examples
from .history import History, read_history
from .page import write_page

__all__ = ['Examples', 'History', 'config_changes', 'find_examples', 'read_history', 'write_page']
