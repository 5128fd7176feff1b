# The paper's study of kernel sizes (Section 3.2 and Table 5) at a width that trains on a CPU, UperNet on CamVid.
_base_ = '../upernet_replknet_tiny_camvid.py'
