import ms from "ms";

const started = Date.now();

Deno.serve({ hostname: "0.0.0.0", port: Number(Deno.env.get("PORT") ?? 5000) }, () => {
  return new Response(`Hello from Deno, up for ${ms(Date.now() - started)}. This is version 1.\n`);
});
