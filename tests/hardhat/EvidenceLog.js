const { expect } = require("chai");
const { loadFixture } = require("@nomicfoundation/hardhat-network-helpers");
const { ethers } = require("hardhat");
const { consistency, id, inclusion, leaves, root, running, vote } = require("./support");

const LEAVES = leaves(21);
const OTHER = leaves(99)[98];

describe("EvidenceLog", () => {
  async function anchored() {
    const world = await running();
    const { id, anchorer } = world.departments.fire;
    const log = world.log.connect(anchorer);
    const anchor = (size, proof) => log.anchor(id, size, root(LEAVES.slice(0, size)), proof);
    await anchor(7, []);
    return { ...world, id, log, anchor };
  }

  it("anchors what is proven to extend the head", async () => {
    const { id, log, anchor, departments } = await loadFixture(anchored);
    await expect(anchor(21, consistency(7, LEAVES)))
      .to.emit(log, "Anchored")
      .withArgs(id, 21, root(LEAVES), 7, departments.fire.anchorer.address);
    const head = await log.head(id);
    expect([head.root, head.size, head.previousSize]).to.deep.equal(["0x" + root(LEAVES).toString("hex"), 21n, 7n]);
    expect((await log.rootAt(id, 7)).size).to.equal(7n);
    await expect(log.rootAt(id, 8)).to.be.revertedWithCustomError(log, "EvidenceLogNotAnchored").withArgs(id, 8);
  });

  it("takes every honest proof between small sizes", async () => {
    const { log: deployed, departments } = await loadFixture(running);
    const { id, anchorer } = departments.fire;
    const log = deployed.connect(anchorer);
    for (let old = 1; old < 20; old += 1) {
      await log.anchor(id, old, root(LEAVES.slice(0, old)), old > 1 ? consistency(old - 1, LEAVES.slice(0, old)) : []);
      for (let size = old + 1; size <= 20; size += 1) {
        const entries = LEAVES.slice(0, size);
        await log.anchor.staticCall(id, size, root(entries), consistency(old, entries));
      }
    }
  });

  it("does nothing when told the head again", async () => {
    const { log, anchor } = await loadFixture(anchored);
    await expect(anchor(7, [])).not.to.emit(log, "Anchored");
  });

  const rewritten = [...LEAVES.slice(0, 2), OTHER, ...LEAVES.slice(3)];
  const attacks = {
    "roll the log back": ["EvidenceLogShrunk", 6, root(LEAVES.slice(0, 6)), []],
    "empty the log": ["EvidenceLogEmptyTree", 0, OTHER, []],
    "show another root of the same size": ["EvidenceLogForked", 7, OTHER, []],
    "rewrite a leaf": ["EvidenceLogInconsistent", 21, root(rewritten), consistency(7, rewritten)],
    "grow without a proof": ["Rfc9162ProofTooShort", 21, root(LEAVES), []],
    "give a proof one node long": ["Rfc9162ProofTooLong", 21, root(LEAVES), [...consistency(7, LEAVES), OTHER]],
  };
  for (const [attack, [error, size, newRoot, proof]] of Object.entries(attacks)) {
    it(`refuses to ${attack}`, async () => {
      const { id, log } = await loadFixture(anchored);
      await expect(log.anchor(id, size, newRoot, proof)).to.be.revertedWithCustomError(log, error);
    });
  }

  it("refuses strangers, other departments and the suspended", async () => {
    const world = await loadFixture(anchored);
    const { id, log, departments, stranger, anchor } = world;
    for (const account of [stranger, departments.urban.anchorer, departments.fire.governor]) {
      await expect(log.connect(account).anchor(id, 21, root(LEAVES), consistency(7, LEAVES)))
        .to.be.revertedWithCustomError(log, "EvidenceLogNotAnchorer")
        .withArgs(id, account.address);
    }
    await vote(world, ["health", "market", "urban"], "suspend", [id]);
    await expect(anchor(21, consistency(7, LEAVES))).to.be.revertedWithCustomError(
      log,
      "EvidenceLogDepartmentSuspended",
    );
  });

  async function succeeded() {
    const world = await anchored();
    const successor = await ethers.deployContract("EvidenceLog", [world.consortium, world.log]);
    await vote(world, ["fire", "health", "market"], "setModule", [id("EvidenceLog"), await successor.getAddress()]);
    return { ...world, predecessor: world.log, log: successor.connect(world.departments.fire.anchorer) };
  }

  it("carries heads and roots over to its successor", async () => {
    const { id: fire, log, predecessor } = await loadFixture(succeeded);
    expect(await log.head(fire)).to.deep.equal(await predecessor.head(fire));
    await expect(log.anchor(fire, 9, OTHER, [])).to.be.revertedWithCustomError(log, "Rfc9162ProofTooShort");
    await expect(log.anchor(fire, 1, LEAVES[0], [])).to.be.revertedWithCustomError(log, "EvidenceLogShrunk");
    const nine = LEAVES.slice(0, 9);
    await expect(predecessor.anchor(fire, 9, root(nine), consistency(7, nine)))
      .to.be.revertedWithCustomError(predecessor, "EvidenceLogNotCurrent")
      .withArgs(await log.getAddress());
    await log.anchor(fire, 9, root(nine), consistency(7, nine));
    expect((await log.head(fire)).previousSize).to.equal(7n);
    expect((await log.rootAt(fire, 7)).size).to.equal(7n);
  });

  it("is not replaced by one that would begin anew", async () => {
    const world = await loadFixture(anchored);
    const other = await ethers.deployContract("EvidenceLog", [world.consortium, ethers.ZeroAddress]);
    const change = [id("EvidenceLog"), await other.getAddress()];
    await expect(vote(world, ["fire", "health", "market"], "setModule", change)).to.be.revertedWithCustomError(
      world.consortium,
      "ConsortiumNotSuccessor",
    );
  });

  it("proves inclusion under an anchored root, and refuses everything else", async () => {
    const { id, log, anchor } = await loadFixture(anchored);
    await anchor(21, consistency(7, LEAVES));
    for (let index = 0; index < 21; index += 1) {
      const found = await log.verifyInclusion(id, 21, LEAVES[index], index, inclusion(index, LEAVES));
      expect(found.size).to.equal(21n);
    }
    await expect(log.verifyInclusion(id, 21, OTHER, 5, inclusion(5, LEAVES))).to.be.revertedWithCustomError(
      log,
      "EvidenceLogNotIncluded",
    );
  });
});
