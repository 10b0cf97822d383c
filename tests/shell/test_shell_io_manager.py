"""What a value was made from is what was read, whatever another run publishes in the meantime."""

from __future__ import annotations

import dagster as dg

from aura.tiers.catalog import Catalog
from aura_assets.io_managers import INPUT, CatalogIOManager, Publication


def test_the_provenance_names_the_version_that_was_loaded_and_not_the_one_published_since(graph, corpus_directory):
    assert graph.run_selection(["corpus_manifest"]).success
    with graph.store() as store:
        loaded = graph.published()["corpus_manifest"]
        manager = CatalogIOManager(store)
        source = {"asset_key": dg.AssetKey("corpus_manifest"), "partition_key": graph.source}
        value = manager.load_input(dg.build_input_context(**source))
        (corpus_directory / "turtle" / "new.txt").write_text("Turn the turtle left and draw.", encoding="utf-8")
        assert graph.run_selection(["corpus_manifest"]).success
        since = graph.published()["corpus_manifest"]
        assert since != loaded
        draft, provenance = Catalog(store).prepare(value), {INPUT + "corpus_manifest": since}
        manager.handle_output(
            dg.build_output_context(asset_key=dg.AssetKey("derived"), partition_key=graph.source),
            Publication(draft, provenance, succeeded=lambda _: {}, failed=list),
        )
        assert Catalog(store).find("derived", graph.source).provenance == {INPUT + "corpus_manifest": loaded}
