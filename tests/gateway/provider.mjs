// A real OpenID Connect provider (the certified `oidc-provider`) on loopback, for tests: any login, no password.
// Usage: node provider.mjs PORT REDIRECT_URI; prints "ready" when it answers.
import Provider from "oidc-provider";

const [port, redirect] = process.argv.slice(2);
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: "yunxi",
      client_secret: "a-secret-for-tests-only",
      redirect_uris: [redirect],
      grant_types: ["authorization_code"],
      response_types: ["code"],
    },
  ],
  pkce: { required: () => true, methods: ["S256"] },
  features: { devInteractions: { enabled: true } },
  cookies: { keys: ["cookies-for-tests-only"] },
  findAccount: (_context, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
});
provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
