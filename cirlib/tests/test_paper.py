"""The published numbers hang together, and comparing with them hides nothing."""

import math

import pandas as pd
import pytest

from cirlib.base.files import UserError
from cirlib.data import paper
from cirlib.data.paper import table, value
from cirlib.report import compare as compare_room
from cirlib.report.compare import compare
from cirlib.report.tables import to_markdown


def reduction(whole: float, part: float) -> float:
    return 100 * (1 - part / whole)


def table1(method: str, column: str, resolution: str) -> float:
    return value("table1", method=method, column=column, resolution=resolution)


def claim(method: str, column: str, place: str) -> float:
    return value("claims", method=method, column=column, place=place)


# The numbers themselves


def test_tables_are_complete():
    rows = {name: len(table(name)) for name in ("table1", "table2", "table3", "table4")}
    assert rows == {"table1": 4 * 9, "table2": 5 * 4, "table3": 8 * 4, "table4": 6 * 4}
    for name in paper.TABLES:
        frame = table(name)
        assert frame[["column", "value", "place"]].notna().all(axis=None)
    assert table("claims")["quote"].notna().all()


def test_every_table_number_has_one_key():
    for name in ("table1", "table2", "table3", "table4"):
        frame = table(name)
        assert not frame.duplicated([c for c in frame if c not in compare_room._NOT_KEYS]).any(), (
            name
        )


def test_unknown_table_names_the_choice():
    with pytest.raises(UserError, match="table1, table2"):
        table("table5")


def test_a_table_is_read_once_and_every_reader_has_an_own_one(monkeypatch):
    first = table("table1")
    monkeypatch.setattr(pd, "read_csv", lambda *_, **__: pytest.fail("read again"))
    first["value"] = 0.0
    assert (table("table1")["value"] > 0).all()


def test_missing_files_are_a_user_error(monkeypatch, tmp_path):
    monkeypatch.setattr(paper.paths, "PAPER", tmp_path)
    with pytest.raises(UserError, match="clone"):
        table("table1")


def test_searched_networks_win_every_row_of_table_1():
    wide = table("table1").pivot(index=["column", "resolution"], columns="method", values="value")
    assert (wide["ta-tsnet"] < wide["tsnet"]).all()
    assert (wide["tsnet"] < wide["cresmd"]).all()


@pytest.mark.parametrize("resolution", ["HD", "2K", "4K"])
def test_flops_reductions_of_table_1(resolution):
    whole = table1("cresmd", "flops", resolution)
    tsnet = reduction(whole, table1("tsnet", "flops", resolution))
    assert tsnet == pytest.approx(claim("tsnet", "flops_reduction", "Section 4.1"), abs=0.05)
    # The one claim that the tables exceed: its note says so.
    shared = reduction(whole, table1("ta-tsnet", "flops", resolution))
    claimed = table("claims").query("method == 'ta-tsnet' and column == 'flops_reduction'")
    assert claimed["value"].nunique() == 1
    assert 0.2 < shared - claimed["value"].iloc[0] < 0.4
    assert claimed["note"].str.contains("Table 1 gives").all()


def test_flops_follow_the_number_of_pixels():
    def pixels(resolution):
        keys = {"resolution": resolution, "place": "Section 4.1"}
        return value("claims", column="width", **keys) * value("claims", column="height", **keys)

    ratio = pixels("4K") / pixels("HD")
    for method in ("cresmd", "tsnet", "ta-tsnet"):
        expected = ratio * table1(method, "flops", "HD")
        assert table1(method, "flops", "4K") == pytest.approx(expected, rel=5e-4)
    expected = table1("cresmd", "flops", "HD") * pixels("HVGA") / pixels("HD")
    hvga = value("table3", method="cresmd", column="flops", effects=1)
    assert hvga == pytest.approx(expected, rel=5e-3)  # half of an odd size is rounded up


def test_latency_claims_follow_from_table_1():
    def speedup(method, column):
        return table1("cresmd", column, "4K") / table1(method, column, "4K")

    for method in ("tsnet", "ta-tsnet"):
        said = claim(method, "latency_gpu_speedup", "Section 1")
        assert speedup(method, "latency_gpu") == pytest.approx(said, abs=0.05)
    for column in ("latency_cpu_single", "latency_cpu_multi", "latency_gpu"):
        said = claim("ta-tsnet", f"{column}_speedup", "Section 4.1")
        assert speedup("ta-tsnet", column) == pytest.approx(said, abs=0.05)
    gpu = [table1(m, "latency_gpu", "4K") for m in ("cresmd", "ta-tsnet")]
    said = claim("ta-tsnet", "latency_gpu_reduction", "Abstract")
    assert reduction(*gpu) == pytest.approx(said, abs=0.05)
    seconds = table1("ta-tsnet", "latency_gpu", "HD") / 1000
    assert seconds == pytest.approx(claim("ta-tsnet", "latency_gpu", "Section 4.1"), abs=0.005)


def test_flops_claims_follow_from_table_3():
    whole = value("table3", method="cresmd", column="flops", effects=27)
    tsnet = value("table3", method="tsnet", column="flops", effects=27)
    said = claim("tsnet", "flops_reduction", "Section 1")
    assert reduction(whole, tsnet) == pytest.approx(said, abs=0.05)
    single = value("table3", method="ta-tsnet", column="flops", effects=1)
    said = claim("ta-tsnet", "flops_speedup", "Section 5")
    assert whole / single == pytest.approx(said, abs=0.05)


def test_psnr_drop_is_that_of_table_2():
    psnr = {m: value("table2", method=m, column="psnr") for m in ("cresmd", "tsnet", "ta-tsnet")}
    drop = claim("ta-tsnet", "psnr_drop", "Section 4.2")
    assert psnr["cresmd"] - psnr["ta-tsnet"] == pytest.approx(drop, abs=1e-9)
    assert psnr["cresmd"] - psnr["tsnet"] == pytest.approx(drop, abs=0.011)  # noted as 0.10


def test_tables_agree_with_each_other():
    for method in ("cresmd", "tsnet", "ta-tsnet"):
        keys = {"method": method, "column": "psnr"}
        assert value("table2", **keys) == value("table3", **keys)
    row = table("table3").query("method == 'ta-tsnet'")["value"].tolist()
    assert table("table4").query("experiment == 2")["value"].tolist() == row
    assert table("table4").query("experiment == 5")["value"].tolist() == row
    default = table("table4").query("experiment == 2").iloc[0]
    for name in ("lambda1", "lambda2"):
        assert default[name] == value("claims", method="ta-tsnet", column=name)


def test_sharing_everything_divides_the_cost_by_the_effects():
    whole = value("table3", method="cresmd", column="flops", effects=27)
    shared = value("table3", column="flops", effects=27, shared_layers=99)
    assert whole / 27 == pytest.approx(shared, abs=0.05)


# value()


def test_value_raises_on_none_or_several():
    with pytest.raises(LookupError, match="0 numbers"):
        value("table2", method="ta_tsnet", column="psnr")
    with pytest.raises(LookupError, match="5 numbers.*Table 2, row CResMD"):
        value("table2", column="psnr")
    with pytest.raises(LookupError, match="none of the columns"):
        value("table2", metric="psnr")


def test_value_matches_missing_keys_with_none():
    frame = table("table3")
    assert 0 < value(frame, method="ta-tsnet", effects=None, column="shared_layers") < 100
    assert math.isfinite(value(frame, column="psnr", shared_layers=31))


# compare()


@pytest.fixture
def published():
    return pd.DataFrame(
        {
            "method": ["a", "a", "b", "b"],
            "column": ["psnr", "flops", "psnr", "flops"],
            "value": [24.3, 1000.0, 24.24, 40.0],
            "unit": ["dB", "GFLOPs", "dB", "GFLOPs"],
            "place": "somewhere",
        }
    )


def test_compare_judges_absolutely_and_relatively(published):
    ours = pd.DataFrame(
        {
            "method": ["b", "a", "a", "b"],
            "column": ["psnr", "psnr", "flops", "flops"],
            "value": [24.35, 24.04, 1049.0, 43.0],
        }
    )
    result = compare(published, ours, {"psnr": 0.11, "flops": "5%"})
    assert list(result) == [
        "method", "column", "unit", "paper", "ours", "difference", "tolerance", "within tolerance",
    ]  # fmt: skip
    assert result["method"].tolist() == ["a", "a", "b", "b"]
    assert result["difference"].round(2).tolist() == [-0.26, 49.0, 0.11, 3.0]
    # 0.11 dB off with 0.11 dB allowed is inside, whatever binary arithmetic makes of it
    assert result["within tolerance"].tolist() == [False, True, True, False]


def test_compare_keeps_what_was_not_measured(published):
    ours = pd.DataFrame({"method": ["b"], "column": ["psnr"], "value": [25.0]})
    result = compare(published, ours, {"psnr": 1})
    assert len(result) == 4
    assert result["ours"].isna().sum() == 3
    assert result["difference"].isna().sum() == 3
    assert result["within tolerance"].isna().tolist() == [True, True, False, True]
    nothing = compare(published, ours.iloc[:0], {})
    assert nothing["ours"].isna().all() and len(nothing) == 4
    missing = published[["method", "column", "value"]].assign(value=float("nan"))
    assert compare(published, missing, {})["within tolerance"].isna().all()


def test_compare_shows_rows_that_the_paper_lacks(published):
    ours = pd.DataFrame(
        {
            "method": ["b", "B", "a"],
            "column": ["psnr", "psnr", "speed"],
            "value": [25.0, 24.0, 3.0],
        }
    )
    result = compare(published, ours, {"psnr": 1})
    assert result["method"].tolist()[4:] == ["B", "a"]
    assert result["unit"][4] == "dB" and pd.isna(result["unit"][5])
    assert result["paper"].isna().tolist() == [False] * 4 + [True] * 2
    assert result["within tolerance"].isna().tolist()[4:] == [True, True]


def test_compare_refuses_what_it_cannot_judge(published):
    ours = published[["method", "column", "value"]]
    with pytest.raises(ValueError, match="no tolerance for flops"):
        compare(published, ours, {"psnr": 0.1})
    with pytest.raises(ValueError, match="0.1 dB"):
        compare(published, ours, {"psnr": "0.1 dB", "flops": "1%"})
    with pytest.raises(ValueError, match="not unique"):
        compare(published, pd.concat([ours, ours]), {})
    ours = pd.DataFrame({"method": ["cresmd"], "column": ["flops"], "value": [1.0]})
    with pytest.raises(ValueError, match="resolution"):
        compare(table("table1"), ours, {"flops": 1})


def test_compare_meets_integer_float_and_missing_keys():
    published = table("table4")
    ours = published[["method", "column", "lambda1", "lambda2", "effects", "value"]]
    ours = ours.drop_duplicates().astype({"effects": "float64", "method": "object"})
    result = compare(published, ours, {"psnr": 0, "flops": 0, "shared_layers": "0%"})
    assert len(result) == len(published)  # the model printed in two rows is compared in both
    assert result["within tolerance"].all()
    assert result["effects"].dtype == published["effects"].dtype
    assert result["experiment"].tolist() == published["experiment"].tolist()


# to_markdown()


def test_markdown_has_the_papers_decimals_and_names_gaps(published):
    ours = pd.DataFrame(
        {"method": ["a", "b", "c"], "column": "psnr", "value": [24.24, 23.613456, 7]}
    )
    text = to_markdown(compare(published, ours, {"psnr": 0.1}))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]
    assert rows[0] == ["a", "PSNR", "dB", "24.30", "24.24", "-0.06", "0.1", "yes"]
    assert rows[1] == ["a", "FLOPs", "GFLOPs", "1000", "not measured", "", "", ""]
    assert rows[2] == ["b", "PSNR", "dB", "24.24", "23.61", "-0.63", "0.1", "no"]
    assert rows[4] == ["c", "PSNR", "dB", "not published", "7.00", "", "0.1", ""]


def test_markdown_never_rounds_a_small_number_to_nothing():
    frame = pd.DataFrame({"lambda": [5e-11, 5e-12], "G": [1124.3, 0.031], "n": [1, None]})
    text = to_markdown(frame)
    for shown in ("5e-11", "5e-12", "1124", "0.031"):
        assert shown in text
    assert "nan" not in text
