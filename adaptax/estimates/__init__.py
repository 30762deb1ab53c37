"""Estimates: rates inferred from distances, curvature or a bound on the loss."""

from adaptax.estimates.adgd import AdgdState as AdgdState
from adaptax.estimates.adgd import adgd as adgd
from adaptax.estimates.adgd2 import Adgd2State as Adgd2State
from adaptax.estimates.adgd2 import adgd2 as adgd2
from adaptax.estimates.cdat import CdatState as CdatState
from adaptax.estimates.cdat import cdat as cdat
from adaptax.estimates.dog import DogState as DogState
from adaptax.estimates.dog import dog as dog
from adaptax.estimates.dowg import DowgState as DowgState
from adaptax.estimates.dowg import dowg as dowg
from adaptax.estimates.l_dog import LDogState as LDogState
from adaptax.estimates.l_dog import l_dog as l_dog
from adaptax.estimates.line_search import LineSearchState as LineSearchState
from adaptax.estimates.line_search import line_search as line_search
from adaptax.estimates.polyak import PolyakState as PolyakState
from adaptax.estimates.polyak import polyak as polyak
