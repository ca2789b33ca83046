const { expect } = require("chai");
const { loadFixture, time } = require("@nomicfoundation/hardhat-network-helpers");
const { ethers } = require("hardhat");
const { id, inclusion, leaves, now, root, running } = require("./support");

const ROSTER = leaves(30);
const NAMES = ["fire", "urban"];
const HOUR = 3600;
const secret = (name) => ethers.id(`secret of ${name}`);

describe("VerifiableDraw", () => {
  async function opened() {
    const world = await running();
    const draws = await ethers.deployContract("VerifiableDraw", [world.consortium]);
    const start = await now();
    const plan = {
      planId: ethers.id("plan"),
      rosterRoot: root(ROSTER),
      rosterSize: ROSTER.length,
      commitBy: start + HOUR,
      revealBy: start + 2 * HOUR,
      count: 4,
      participants: NAMES.map(id),
    };
    await draws.connect(world.departments.market.governor).open(id("market"), plan);
    const of = (name) => draws.connect(world.departments[name].governor);
    const commit = async (name) => of(name).commit(0, id(name), await draws.commitmentOf(0, id(name), secret(name)));
    const reveal = (name) => of(name).reveal(0, id(name), secret(name));
    return { ...world, draws, plan, of, commit, reveal };
  }

  // As IVerifiableDraw documents it: SHA-256 over 32-byte words.
  async function recompute(draws, revealed) {
    const { chainId } = await ethers.provider.getNetwork();
    const draw = await draws.drawAt(0);
    const parts = NAMES.flatMap((name) => [id(name), revealed.includes(name) ? secret(name) : ethers.ZeroHash]);
    const words = [chainId, BigInt(await draws.getAddress()), 0n, draw.rosterRoot, draw.entropy, ...parts];
    const seed = ethers.sha256(ethers.concat(words.map((word) => ethers.toBeHex(word, 32))));
    expect(draw.seed).to.equal(seed);
    const places = [];
    for (let number = 0; places.length < 4; number += 1) {
      const place = BigInt(ethers.sha256(ethers.concat([seed, ethers.toBeHex(number, 32)]))) % BigInt(ROSTER.length);
      if (!places.includes(place)) places.push(place);
    }
    return places;
  }

  it("is recomputed by anyone", async () => {
    const { draws, commit, reveal } = await loadFixture(opened);
    for (const name of NAMES) await commit(name);
    for (const name of NAMES) await reveal(name);
    await draws.finish(0);
    const selected = await draws.selection(0);
    expect(selected).to.deep.equal(await recompute(draws, NAMES));
    for (const place of selected.map(Number)) {
      await draws.verifySelected(0, place, ROSTER[place], inclusion(place, ROSTER));
    }
  });

  it("is not blocked by a department that does not reveal", async () => {
    const { draws, commit, reveal } = await loadFixture(opened);
    for (const name of NAMES) await commit(name);
    await reveal("fire");
    await expect(draws.finish(0)).to.be.revertedWithCustomError(draws, "VerifiableDrawRevealOpen");
    await time.increase(2 * HOUR);
    await expect(draws.finish(0)).to.emit(draws, "DrawMissed").withArgs(0, id("urban"), true);
    expect(await draws.selection(0)).to.deep.equal(await recompute(draws, ["fire"]));
  });

  it("refuses another secret, a late commitment and a second draw of one plan", async () => {
    const { draws, commit, of, plan } = await loadFixture(opened);
    await commit("fire");
    await time.increase(HOUR);
    await expect(of("fire").reveal(0, id("fire"), secret("urban"))).to.be.revertedWithCustomError(
      draws,
      "VerifiableDrawOtherSecret",
    );
    await expect(commit("urban")).to.be.revertedWithCustomError(draws, "VerifiableDrawCommitOver");
    await expect(of("market").open(id("market"), plan)).to.be.revertedWithCustomError(draws, "VerifiableDrawPlanTaken");
  });
});
