"""The report, opened as a reader opens it: in a browser, without a network."""

import json
import shutil
import time

import pytest


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium that logs what its pages complain about."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("chromium and chromedriver are not installed (Debian packages chromium, chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    profile = tmp_path_factory.mktemp("chromium")
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--window-size=1500,1100", f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, finished):
    """The report's front page, freshly opened."""
    browser.get((finished.root / "results/report.html").as_uri())
    wait_for(browser, "return document.body.innerText.includes('Versions')")
    return browser


def wait_for(browser, script, seconds=10):
    end = time.monotonic() + seconds
    while not browser.execute_script(script):
        assert time.monotonic() < end, f"not within {seconds} s: {script}\n{browser.page_source[:2000]}"
        time.sleep(0.05)


def complaints(browser):
    """Errors on the console; of the warnings only the style sheet's own, that it is compiled in the page, is known."""
    entries = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    return [entry for entry in entries if "should not be used in production" not in entry["message"]]


def test_front_page_says_what_was_run_with_what_result(page):
    text = page.find_element("tag name", "body").text
    for expected in ("A tiny run", "Tagging", "Generation", "Unfolding", "Integration", "Pythia 8", "torch", "AUC"):
        assert expected in text
    assert page.execute_script("return document.querySelector('.prose').getBoundingClientRect().top") >= 0
    assert not complaints(page)


def test_every_result_opens_with_caption_and_unbroken_image(page, finished):
    paths = page.execute_script("return Object.keys(results)")
    figures = {str(path.relative_to(finished.root)) for path in finished.root.glob("results/*/figures/*.png")}
    assert figures <= set(paths)
    for path in paths:
        result = page.execute_script("return results[arguments[0]]", path)
        assert len(result["caption"]) > 80, path
        assert result["labels"] or result["name"], path
        if result["mime_type"].startswith("image"):
            size = page.execute_async_script(
                "const done = arguments[1], image = new Image();"
                "image.onload = () => done(image.naturalWidth); image.onerror = () => done(0);"
                "image.src = arguments[0]", result["data_uri"],
            )  # fmt: skip
            assert size > 300, path
    assert not complaints(page)


def test_every_menu_entry_opens(page):
    categories = page.execute_script("return Object.keys(categories)")
    assert {"Tagging", "Generation", "Unfolding", "Integration", "Tables"} <= set(categories)
    for category in categories:
        page.execute_script("app.showCategory(arguments[0])", category)
        wait_for(page, f"return document.body.innerText.toLowerCase().includes({category.lower()!r})")
    for path in page.execute_script("return Object.keys(results)"):
        page.execute_script("app.showResultInfo(arguments[0])", path)
        wait_for(page, "return document.body.innerText.length > 100")
    assert not complaints(page)


def test_metrics_hold_every_analysis(finished):
    records = json.loads((finished.root / "results/metrics.json").read_text())
    assert {record["analysis"] for record in records} == {
        "samples", "tagging", "search", "generation", "unfolding", "integration",
    }  # fmt: skip
    for record in records:
        assert record["low"] <= record["value"] <= record["high"], record
        assert record["n"] > 0


def test_every_figure_stands_as_pdf_and_png_beside_its_numbers(finished):
    numbers = list(finished.root.glob("results/*/figures/*.json"))
    assert len(numbers) > 20
    for path in numbers:
        assert path.with_suffix(".pdf").exists()
        assert path.with_suffix(".png").exists()
