"""Networks that leave the project: as ONNX, as a program of torch.export, as a MONAI bundle; each with its proof."""
