# 160k iterations in steps of 16 images, 8 GPUs x 2, with decaying learning rates and Mask2Former's clipped gradients.
_base_ = 'adamw_160k_decay.py'
optim_wrapper = dict(clip_grad=dict(max_norm=0.01, norm_type=2))
