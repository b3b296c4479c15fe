"""What one would use instead, as a table: classic filters, our networks, published denoisers."""

import pandas as pd

from cirlib.data import paper
from cirlib.report.figures import MODEL_LABELS


def peers_table(frame: pd.DataFrame, published: bool) -> pd.DataFrame:
    """measure.peers.peers in wide form: a row a method, PSNR by damage, then seconds an effect.

    published: with the numbers of others last, which are of all of CBSD68, whole.
    """
    wide = frame.pivot(index="method", columns="damage", values="psnr")
    wide = wide.loc[frame["method"].unique(), frame["damage"].unique()]
    wide["seconds"] = frame.groupby("method")["seconds"].mean()
    wide.index = [MODEL_LABELS.get(method, method) for method in wide.index]
    others = paper.table("others").pivot(index="method", columns="damage", values="value")
    others = others.reindex(columns=wide.columns).sort_values(list(others.columns))
    others.index = [f"{method} (published)" for method in others.index]
    rows = pd.concat([wide, others] if published else [wide]).rename_axis("method").reset_index()
    digits = dict.fromkeys(frame["damage"].unique(), 2) | {"seconds": 3}
    text = rows.astype({name: object for name in digits})
    for name, places in digits.items():
        text[name] = ["" if pd.isna(x) else f"{x:.{places}f}" for x in rows[name]]
    titles = {name: f"{name}, dB" for name in frame["damage"].unique()}
    return text.rename(columns=titles)
