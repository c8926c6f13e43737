"""Imported once by the process that controllers are forked from: what each of them would spend its first seconds on."""

from __future__ import annotations

import gc

import optuna_dashboard
import sklearn.gaussian_process

import service.controller
from service.searches.prepare import prepare_search
from service.specs.search import SearchSpec
from tests.helpers.controllers import search_spec

LOADED = (optuna_dashboard, service.controller, sklearn.gaussian_process)

prepare_search(SearchSpec.model_validate(search_spec()))  # the tokenizer, and the corpus in tokens
gc.freeze()  # the collector of a forked process would touch, and so copy, all of it
