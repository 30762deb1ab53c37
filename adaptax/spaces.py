"""stub."""
import numpy as np, jax
from typing import NamedTuple, Any
class Axis(NamedTuple):
    values: Any; low: float; high: float; log: bool
    def draw(self, key, n):
        u=np.asarray(jax.random.uniform(key,(n,)))
        if self.values is not None: return self.values[(u*len(self.values)).astype(int)]
        return np.exp(np.log(self.low)+u*(np.log(self.high)-np.log(self.low))).astype(np.float32) if self.log else (self.low+u*(self.high-self.low)).astype(np.float32)
    def perturbed(self, v, f, key): return np.clip(v*f,self.low,self.high)
def log_grid(l,h,n): return Axis(np.geomspace(l,h,n).astype(np.float32),l,h,True)
def log_uniform(l,h): return Axis(None,l,h,True)
def is_axis(x): return isinstance(x,Axis)
def is_random(s): return any(is_axis(a) and a.values is None for a in s.values())
def members(s,n,key):
    [(k,a)]=s.items()
    return {k: a.values if a.values is not None else a.draw(key,n)}
