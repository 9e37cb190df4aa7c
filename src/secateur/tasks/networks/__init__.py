"""The small networks of the literature, for 28 x 28 grey images: what the reproductions train and prune."""

from secateur.tasks.networks.lenet import lenet_5, lenet_300_100
from secateur.tasks.networks.mobilenet import mobilenet_v1
from secateur.tasks.networks.resnet import resnet_20, resnet_20_bottleneck
from secateur.tasks.networks.vgg import vgg_small

__all__ = ["lenet_5", "lenet_300_100", "mobilenet_v1", "resnet_20", "resnet_20_bottleneck", "vgg_small"]
