import math
import pickle

import pytest

from ropewalk.errors import InvalidRescaleFactors
from ropewalk.rope.rescale_factors import RescaleFactors
from ropewalk.rope.scaling import Scaling

FACTORS = RescaleFactors((1.0, 2.5))


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_attention_factor_is_refused(value: float) -> None:
    with pytest.raises(InvalidRescaleFactors, match="attention_factor must be finite and positive, but got"):
        Scaling(FACTORS, value)


def test_what_scores_alike_has_one_key_here_and_in_other_processes() -> None:
    scaling = Scaling(FACTORS, 1.1)
    assert scaling.key == ((1.0, 2.5), 1.1)
    assert pickle.loads(pickle.dumps(scaling)) == scaling
    assert len({scaling, Scaling(FACTORS), Scaling(RescaleFactors((1.0, 2.5)), 1.1)}) == 2


def test_the_identity_changes_nothing_and_fits_its_model_alone() -> None:
    identity = Scaling.identity(3)
    assert (identity.factors, identity.attention_factor) == (RescaleFactors.identity(3), 1.0)
    identity.check_fits(3)
    with pytest.raises(InvalidRescaleFactors, match="rotary_dim / 2 = 4"):
        identity.check_fits(4)
