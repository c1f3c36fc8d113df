// Typeset equations with MathJax at build time, so that no page has to. Reads from stdin a JSON list of pages, each a
// list of {tex, display}; writes a list of {css, html}: a page's styles, and one piece of HTML for each equation.
const MathJax = require("mathjax");

async function main() {
  const pages = JSON.parse(require("fs").readFileSync(0, "utf8"));
  const math = await MathJax.init({
    loader: { load: ["input/tex-full", "output/chtml", "a11y/assistive-mml"] },
    // An equation with a mistake stops the build instead of showing in red.
    tex: { packages: { "[-]": ["noerrors", "noundefined"] }, formatError: (jax, error) => { throw error; } },
    chtml: { fontURL: "MATH-FONTS" },
  });
  const out = pages.map((equations) => {
    math.startup.output.clearCache();   // styles for this page's characters only
    const html = equations.map(({ tex, display }) => {
      try {
        return math.startup.adaptor.outerHTML(math.tex2chtml(tex, { display }));
      } catch (error) {
        throw new Error(`${error.message}: ${tex}`);
      }
    });
    return { css: math.startup.adaptor.textContent(math.chtmlStylesheet()), html };
  });
  process.stdout.write(JSON.stringify(out));
}

main().catch((error) => { console.error(error.message); process.exit(1); });
