from .contact_sheet import contact_sheet, instance_row, instance_sheet, label_row, read_maps
from .images import ImageFolder, chosen_pictures
from .named_sheet import draw_named, named_sheet

__all__ = [
    'ImageFolder', 'chosen_pictures', 'contact_sheet', 'draw_named', 'instance_row', 'instance_sheet', 'label_row',
    'named_sheet', 'read_maps'
]
