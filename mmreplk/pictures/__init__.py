from .contact_sheet import contact_sheet, instance_row, instance_sheet, label_row
from .images import ImageFolder

__all__ = ['ImageFolder', 'contact_sheet', 'instance_row', 'instance_sheet', 'label_row']
