"""Many small leaves as a few flat buffers."""

from adaptax.packing.layout import PackedTree as PackedTree
from adaptax.packing.parameters import PackedParams as PackedParams
from adaptax.packing.parameters import pack as pack
from adaptax.packing.parameters import unpack as unpack
from adaptax.packing.wrapper import PackedState as PackedState
from adaptax.packing.wrapper import packed as packed
from adaptax.packing.wrapper import unpack_state as unpack_state
