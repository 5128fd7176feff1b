# 12 epochs in steps of 16 images, 8 GPUs x 2, with DINO's weight decay and clipped gradients.
_base_ = 'adamw_3x_decay.py'
optim_wrapper = dict(optimizer=dict(weight_decay=1e-4), clip_grad=dict(max_norm=0.1, norm_type=2))
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=12, milestones=[11])
train_cfg = dict(max_epochs=12)
