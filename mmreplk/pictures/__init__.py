from .contact_sheet import contact_sheet, instance_row, instance_sheet, label_row
from .images import ImageFolder, chosen_pictures

__all__ = ['ImageFolder', 'chosen_pictures', 'contact_sheet', 'instance_row', 'instance_sheet', 'label_row']
