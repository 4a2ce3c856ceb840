"""Classified images: CIFAR, Fashion-MNIST, ImageNet."""
