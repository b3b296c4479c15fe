"""How `make notebooks` cleans what it has run: nbconvert's settings.

Sources, outputs and tags of cells are kept, the same from every editor.
"""

c = get_config()  # noqa: F821  nbconvert hands it in


def without_kernel(notebook, resources):
    """Drop views of widgets, an error without the widget's state, and progress on stderr."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
        if "outputs" in cell:
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    return notebook, resources


c.NotebookExporter.preprocessors = [
    "nbconvert.preprocessors.CoalesceStreamsPreprocessor",  # text that came in pieces is one output
    without_kernel,
]
c.ClearMetadataPreprocessor.enabled = True
c.ClearMetadataPreprocessor.preserve_nb_metadata_mask = {"kernelspec", ("language_info", "name")}
c.ClearMetadataPreprocessor.preserve_cell_metadata_mask = {"tags"}
