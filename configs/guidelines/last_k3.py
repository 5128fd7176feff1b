_base_ = 'base_last.py'
