"""Puts the pictures of a search into its Optuna study, where the dashboard shows them, and the API finds them."""

import logging
from collections.abc import Mapping

import optuna
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from pydantic import TypeAdapter, ValidationError

from ropewalk.wire.pictures import SearchPictures
from service.pictures.figures import FIGURES, Figure
from service.pictures.reading import PictureReader
from storage.errors import DatabaseUnreachable, LeaseLost
from storage.postgres.database import Database
from storage.study.reading import system_attribute
from storage.study.record import StudyRecord

GRAPH_PREFIX = "ropewalk-"
PLOT_PREFIX = f"dashboard:plot_data:{GRAPH_PREFIX}"  # optuna_dashboard's own prefix, then ours

PICTURES = "ropewalk:pictures"  # the system attribute that keeps what was drawn as data

_PICTURES = TypeAdapter(SearchPictures)

logger = logging.getLogger("ropewalk.dashboard")


def draw_dashboard(study: StudyRecord, reader: PictureReader, *, winner: int | None = None) -> bool:
    """Draw the search as it is now in place of what was drawn before; returns whether it could be.

    A search does not need its pictures: whatever else goes wrong is logged, and the next generation draws again.

    Raises:
        LeaseLost: the search is another controller's by now.
        DatabaseUnreachable: which the search needs as well.
    """
    try:
        pictures = reader.read(winner=winner)
        study.replace_system_attributes(PLOT_PREFIX, plot_attributes(pictures))
        study.replace_system_attributes(PICTURES, {PICTURES: _PICTURES.dump_json(pictures).decode()})
    except (LeaseLost, DatabaseUnreachable):
        raise
    except Exception as error:
        logger.warning(
            "the dashboard's pictures could not be drawn: %s: %s", type(error).__name__, error, exc_info=True
        )
        return False
    return True


def drawn_pictures(database: Database, search_id: str) -> SearchPictures | None:
    """What was drawn last, which reads no trials; None: nothing yet, or by another version."""
    found = system_attribute(database, search_id, PICTURES)
    try:
        return None if found is None else _PICTURES.validate_json(found)
    except ValidationError:
        return None


def plot_attributes(pictures: SearchPictures) -> dict[str, str]:
    """The study attributes in which optuna_dashboard keeps the figures of `pictures`."""
    figures = {GRAPH_PREFIX + name: draw(pictures) for name, draw in FIGURES.items()}
    return _as_stored({name: figure for name, figure in figures.items() if figure is not None})


def _as_stored(figures: Mapping[str, Figure]) -> dict[str, str]:
    """What optuna_dashboard writes into a study, one transaction for each 2 kB, taken from a study in memory."""
    import plotly.graph_objects as go
    from optuna_dashboard import save_plotly_graph_object  # with plotly half a second, and only now needed

    storage = InMemoryStorage()
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], "figures")
    study = optuna.load_study(study_name="figures", storage=storage)
    for name, figure in figures.items():
        save_plotly_graph_object(study, go.Figure(figure), graph_object_id=name)
    return dict(storage.get_study_system_attrs(study_id))
