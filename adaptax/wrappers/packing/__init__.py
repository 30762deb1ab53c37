"""Many small leaves as a few flat buffers."""

from adaptax.wrappers.packing.layout import PackedTree as PackedTree
from adaptax.wrappers.packing.parameters import PackedParams as PackedParams
from adaptax.wrappers.packing.parameters import pack as pack
from adaptax.wrappers.packing.parameters import unpack as unpack
from adaptax.wrappers.packing.wrapper import PackedState as PackedState
from adaptax.wrappers.packing.wrapper import packed as packed
from adaptax.wrappers.packing.wrapper import unpack_state as unpack_state
