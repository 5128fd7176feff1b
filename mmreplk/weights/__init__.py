from .files import is_whole, read_checkpoint, write_checkpoint

__all__ = ['is_whole', 'read_checkpoint', 'write_checkpoint']
