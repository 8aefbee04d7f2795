"""How the pages look: one style sheet, light and dark, for colour-blind eyes too."""

from __future__ import annotations

CSS = """
:root { color-scheme: light dark; --ground: #fff; --card: #f6f7f9; --ink: #1c2330; --soft: #566072;
  --line: #d5dae2; --source: #c4560a; --ported: #0a62a8; --limit: #6b7280; --good: #10713f;
  --good-ground: #e2f4e9; --bad: #a3211b; --bad-ground: #fdeae8; --h0: #f1f4f8; --h1: #dce8f4;
  --h2: #bcd6ec; --h3: #93bee0; --h4: #659fcf; --h5: #3a7fba; --h6: #f5a623; --h7: #e0601b;
  --h8: #a3211b; }
@media (prefers-color-scheme: dark) { :root { --ground: #12161d; --card: #1a202a; --ink: #e6eaf1;
  --soft: #a3adbd; --line: #333c4a; --source: #f29a5c; --ported: #62b0f0; --limit: #9aa3b2;
  --good: #6cd49b; --good-ground: #14301f; --bad: #ff9d94; --bad-ground: #3d1a18; --h0: #1d2430;
  --h1: #20334a; --h2: #244564; --h3: #2a5a85; --h4: #3472a8; --h5: #4a8fcb; --h6: #f5b942;
  --h7: #f0803c; --h8: #ff6b60; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main, header, footer { max-width: 1180px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 32px; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 1.25rem; margin: 40px 0 8px; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 0 0 8px; font-weight: 600; overflow-wrap: anywhere; }
p { margin: 4px 0; } .soft { color: var(--soft); } a { color: var(--ported); }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .92em; }
.verdict { display: inline-block; border-radius: 6px; padding: 2px 12px; font-weight: 700; }
.pass { color: var(--good); background: var(--good-ground); }
.fail { color: var(--bad); background: var(--bad-ground); }
.notice { border-left: 4px solid var(--bad); background: var(--bad-ground); padding: 8px 14px;
  margin: 12px 0; border-radius: 0 6px 6px 0; overflow-wrap: anywhere; }
dl.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px;
  margin: 20px 0 8px; }
dl.figures div { background: var(--card); border-radius: 8px; padding: 12px 16px; }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; font-size: 1.1rem; font-weight: 600;
  overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(480px, 100%), 1fr));
  gap: 16px; }
figure { background: var(--card); border-radius: 8px; padding: 14px 16px; margin: 0; min-width: 0; }
figure.whole { margin: 12px 0; overflow-x: auto; } .whole .chart { min-width: 760px; }
.chart { width: 100%; height: auto; display: block; }
.chart text { fill: var(--ink); font-size: 12px; } .chart .tick { fill: var(--soft); }
.end { text-anchor: end; } .middle { text-anchor: middle; }
.grid { stroke: var(--line); stroke-width: 1; } .axis { stroke: var(--soft); stroke-width: 1; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.line.source { stroke: var(--source); stroke-dasharray: 6 3; }
.line.source.wide { stroke-width: 6; stroke-dasharray: none; opacity: .45; }
.line.ported { stroke: var(--ported); }
.line.limit { stroke: var(--limit); stroke-dasharray: 2 4; }
.dot.source, .bar.source { fill: var(--source); } .dot.ported, .bar.ported { fill: var(--ported); }
.hover { fill: transparent; } .hover:hover { fill: var(--ported); }
.heat.h0 { fill: var(--h0); background: var(--h0); } .heat.h1 { fill: var(--h1);
  background: var(--h1); } .heat.h2 { fill: var(--h2); background: var(--h2); }
.heat.h3 { fill: var(--h3); background: var(--h3); } .heat.h4 { fill: var(--h4);
  background: var(--h4); } .heat.h5 { fill: var(--h5); background: var(--h5); }
.heat.h6 { fill: var(--h6); background: var(--h6); } .heat.h7 { fill: var(--h7);
  background: var(--h7); } .heat.h8 { fill: var(--h8); background: var(--h8); }
.chart text.cross { fill: #111; font-weight: 700; pointer-events: none; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 6px 0 0; color: var(--soft);
  font-size: .85rem; } .legend span { display: inline-flex; align-items: center; gap: 6px; }
.key { display: inline-block; width: 22px; height: 0; border-top: 3px solid; }
.key.source { border-color: var(--source); border-top-style: dashed; }
.key.source.wide { border-top: 6px solid var(--source); opacity: .45; }
.key.ported { border-color: var(--ported); }
.key.limit { border-color: var(--limit); border-top-style: dotted; }
.key.heat { width: 14px; height: 14px; border: 1px solid var(--line); border-radius: 3px; }
.scroll { overflow-x: auto; margin: 12px 0; }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 5px 10px; border-bottom: 1px solid var(--line);
  white-space: nowrap; } th:first-child, td:first-child { text-align: left; white-space: normal; }
thead th { color: var(--soft); font-weight: 600; }
td .verdict { padding: 0 8px; font-size: .85rem; }
details { margin: 8px 0; } summary { cursor: pointer; font-weight: 600; padding: 6px 0; }
footer { margin-top: 48px; padding-bottom: 32px; color: var(--soft); font-size: .85rem; }
"""
