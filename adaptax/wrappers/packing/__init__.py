"""Packing many small leaves into a few flat buffers."""

from adaptax.wrappers.packing.layout import PackedTree as PackedTree
from adaptax.wrappers.packing.parameters import PackedParams as PackedParams
from adaptax.wrappers.packing.parameters import pack as pack
from adaptax.wrappers.packing.parameters import unpack as unpack
