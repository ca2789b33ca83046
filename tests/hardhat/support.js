// A consortium on Hardhat's own chain, and the RFC 9162 proofs the tests need.
const { createHash } = require("crypto");
const { ethers } = require("hardhat");

const DEPARTMENTS = ["fire", "health", "market", "urban"];
const USE = { Statement: 1, Log: 2, Encryption: 3, Anchor: 4 };
const DAY = 86_400;

const id = (name) => "0x" + Buffer.from(name, "ascii").toString("hex").padEnd(64, "0");
const sha256 = (...parts) => createHash("sha256").update(Buffer.concat(parts)).digest();
const node = (left, right) => sha256(Buffer.from([1]), left, right);
const leaves = (count) => Array.from({ length: count }, (_, number) => sha256(Buffer.from([number])));

// The largest power of two below `size`.
const split = (size) => 2 ** Math.ceil(Math.log2(size) - 1);

// RFC 9162 section 2.1.1: MTH.
function root(entries) {
  if (entries.length === 1) return entries[0];
  const middle = split(entries.length);
  return node(root(entries.slice(0, middle)), root(entries.slice(middle)));
}

// RFC 9162 section 2.1.3.1: PATH.
function inclusion(index, entries) {
  if (entries.length === 1) return [];
  const middle = split(entries.length);
  const [left, right] = [entries.slice(0, middle), entries.slice(middle)];
  return index < middle ? [...inclusion(index, left), root(right)] : [...inclusion(index - middle, right), root(left)];
}

// RFC 9162 section 2.1.4.1: SUBPROOF; PROOF is the case where the old tree is whole.
function consistency(old, entries, whole = true) {
  if (old === entries.length) return whole ? [] : [root(entries)];
  const middle = split(entries.length);
  const [left, right] = [entries.slice(0, middle), entries.slice(middle)];
  return old <= middle
    ? [...consistency(old, left, whole), root(right)]
    : [...consistency(old - middle, right, false), root(left)];
}

const now = async () => (await ethers.provider.getBlock("latest")).timestamp;

// 64 bytes x || y of the account's key.
function publicKey(wallet) {
  return "0x" + ethers.SigningKey.computePublicKey(wallet.privateKey, false).slice(4);
}

// Set-up still open; every department has a governance account and an anchor key.
async function found() {
  const [deployer, ...others] = await ethers.getSigners();
  const consortium = await ethers.deployContract("Consortium");
  const log = await ethers.deployContract("EvidenceLog", [consortium, ethers.ZeroAddress]);
  await consortium.setModule(id("EvidenceLog"), log);
  const departments = {};
  for (const [number, name] of DEPARTMENTS.entries()) {
    const governor = others[number];
    const anchorer = ethers.Wallet.createRandom(ethers.provider);
    await deployer.sendTransaction({ to: anchorer, value: ethers.parseEther("1") });
    await consortium.admit(id(name), name, `yunxi.example/${name}`, `https://${name}.example`, governor);
    const key = publicKey(anchorer);
    await consortium.registerKey(id(name), ethers.keccak256(key), USE.Anchor, key, await now());
    departments[name] = { id: id(name), governor, anchorer };
  }
  return { deployer, stranger: others[10], consortium, log, departments };
}

// Set-up closed: at least two votes, and always a majority.
async function running() {
  const world = await found();
  await world.consortium.closeSetup(2);
  return world;
}

// The first of `names` proposes, the others approve, the first executes.
async function vote({ consortium, departments }, names, method, args) {
  const action = consortium.interface.encodeFunctionData(method, args);
  const number = await consortium.proposalCount();
  const [first, ...others] = names.map((name) => consortium.connect(departments[name].governor));
  await first.propose(action, (await now()) + DAY);
  for (const other of others) await other.approve(number);
  return first.execute(number, action);
}

module.exports = { DAY, USE, consistency, found, id, inclusion, leaves, now, root, running, vote };
